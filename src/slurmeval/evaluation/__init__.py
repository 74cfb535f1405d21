"""One evaluation: rehearsal, harness, checks and results."""

"""One evaluation from lease to results, and the run that holds many."""

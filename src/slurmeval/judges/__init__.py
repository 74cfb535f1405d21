"""What judges' verdicts say: scores with what they leave open, corrected by people, and each judge's card."""

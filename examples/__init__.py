"""What this is for, to be run: a ledger, a job that spoils it, and the story of taking it back."""

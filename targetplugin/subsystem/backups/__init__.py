"""What runs beside hosts for long: backups, restores and fills, and which backups there are."""

"""Files of backups, raw and qcow2: opened with nothing unseen, read and written at a rate. Knows no save."""

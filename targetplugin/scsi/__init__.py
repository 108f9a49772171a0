"""SCSI: command table, decoding, pages, sense values, vendor commands. Opens no file, knows no LIO."""

"""Points in time, of one volume or of several as one: save, recover, undo and swap."""

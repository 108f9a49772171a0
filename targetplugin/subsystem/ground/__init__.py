"""What every verb stands on: parts and locks, the table of states, operations, the shapes that doors show."""

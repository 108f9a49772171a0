"""What hosts see: exports of volumes, saves shown to them, volumes that they may name together."""

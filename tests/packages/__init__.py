"""What is handed to people: Debian packages, wheel and sdist, manual pages."""

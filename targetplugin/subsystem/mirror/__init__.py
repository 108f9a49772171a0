"""Media and the legs that they make: chosen, brought in, replaced, compared."""

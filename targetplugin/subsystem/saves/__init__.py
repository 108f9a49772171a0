"""Saves while they last: what is in them, their store, holds, what keeps them and what ends them."""

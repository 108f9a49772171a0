"""After a start, or when media come back: what was under way is finished or dropped, and all serves again."""

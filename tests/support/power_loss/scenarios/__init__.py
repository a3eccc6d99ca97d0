"""Services at work, and what must be left of their work whenever the power is lost."""

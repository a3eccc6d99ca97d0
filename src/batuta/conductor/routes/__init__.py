"""What the conductor answers over HTTP."""

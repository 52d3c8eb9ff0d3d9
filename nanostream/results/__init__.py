"""What is kept: `store` (write), `session` (read), `exports`, `verification`."""

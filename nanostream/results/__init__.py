"""Results of a session: `store` (write), `session` (read back), `verification`, `exports`."""

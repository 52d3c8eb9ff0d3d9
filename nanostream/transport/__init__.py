"""How records travel: `messages` (bytes), `dispatch` (who gets what, pure), `sockets` (ZeroMQ)."""

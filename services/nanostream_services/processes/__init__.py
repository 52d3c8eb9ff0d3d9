"""The processes of a session, each started by a command of its own."""

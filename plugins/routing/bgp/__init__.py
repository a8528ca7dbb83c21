"""A BGP speaker in pure Python: codec, state machine and tables without I/O, sessions on asyncio."""

"""The expert's stack: one aiohttp process, hand-written SQL, one round trip to a start."""

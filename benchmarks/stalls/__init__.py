"""For how long an event loop is held: the library beside bare aiohttp and msgspec, the same work in the same round."""

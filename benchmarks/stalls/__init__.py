"""For how long the event loop is blocked, beside bare aiohttp and msgspec: the same work in the same round."""

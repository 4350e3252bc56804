"""The live page and its HTTP interface: `ops.routes` for an aiohttp application.

`LiveState` keeps what the page shows, in bounded memory; one watch and one follow feed it. Viewers only read it, so
they cost no request.
"""

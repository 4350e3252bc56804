"""From the bytes of an answer to models: strict and fast first, lenient item by item where that fails."""

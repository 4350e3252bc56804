"""A watch and a follow over a month of accidents on virtual time, checked by a judge that knows the world."""

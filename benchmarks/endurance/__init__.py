"""A watch and a follow for a month of virtual time, through all that can happen, and a judge who knows the world."""

"""One request, from its arguments to a model: spelled, sent inside the quota, judged, decoded, retried."""

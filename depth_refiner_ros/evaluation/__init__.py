"""How good the depth is, against whom: protocols, peers, scores and reports."""

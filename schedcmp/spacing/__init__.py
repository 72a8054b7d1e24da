"""How noise levels are spaced: lists by name, on betas and on flow matching, and how a scheduler gets them."""

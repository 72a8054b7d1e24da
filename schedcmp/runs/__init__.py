"""A prepared sweep becomes a folder: what is still to be made, by which engine, and where each image goes."""

"""What a cell hands its pipeline beside its prompt: images, a mask, how far to leave the image behind."""

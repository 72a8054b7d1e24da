"""schedcmp from Python and in notebooks: what `import schedcmp` offers. It asks as the command line does, and nothing
here knows how an image is made."""

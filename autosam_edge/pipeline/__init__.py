"""A volume through a network, tile by tile, in bounded memory."""

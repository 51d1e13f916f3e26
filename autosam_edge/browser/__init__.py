"""The web worker: what Python does in a page of the browser."""

"""Where events come from: the API server, a folder of manifests, a journal."""

"""What happened: models, the journal's records, normalization, the journal itself and the sources that feed it."""

"""That the failures others have had cannot happen here."""

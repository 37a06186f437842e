"""Many settings: tune and sweep."""

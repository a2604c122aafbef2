"""The page that shows what a warehouse holds."""

"""From pictures and videos to aligned faces."""

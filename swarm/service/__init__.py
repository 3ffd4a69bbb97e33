"""The master's side of the service: it hosts many searches, and answers requests about them."""

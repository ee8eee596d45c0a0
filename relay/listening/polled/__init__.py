"""Sources without a way to wake us: any database that has triggers and transactions, read again and again."""

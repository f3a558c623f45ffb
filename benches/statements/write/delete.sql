DELETE FROM orders WHERE status = 'cancelled' AND created_at < '2025-01-01'

UPDATE orders SET status = 'closed', amount = amount * 1.21
WHERE created_at < DATEADD(day, -30, CURRENT_DATE()) AND customer_id IN (SELECT id FROM customers WHERE country = 'NL')

SELECT c.country, DATE_TRUNC('month', o.created_at) AS month, COUNT(*) AS orders, SUM(o.amount) AS amount,
       COUNT(DISTINCT c.id) AS customers
FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status <> 'cancelled'
WHERE c.country IS NOT NULL
GROUP BY 1, 2 HAVING SUM(o.amount) > 1000
ORDER BY 2, 4 DESC

SELECT c.name, c.email, o.amount, e.dept FROM sales.public.customers c
JOIN sales.public.orders o ON o.customer_id = c.id
JOIN sales.public.employees e ON e.id = o.id
WHERE c.country = 'NL' AND o.amount > 100
ORDER BY o.amount DESC LIMIT 100

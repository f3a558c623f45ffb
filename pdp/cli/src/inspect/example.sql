-- Customers that spend, and what nobody knows.
SELECT c.id, c.email, SUM(o.amount) AS total, IFF(c.balance > 0, 'yes', 'no') AS solvent,
       c.nothing
FROM customers c
JOIN orders o ON o.customer_id = c.id
WHERE o.status IN (SELECT status FROM nowhere)
GROUP BY ALL;

COPY INTO 's3://elsewhere/out/' FROM (SELECT email FROM customers);

INSERT INTO staging.leads (email) SELECT my_function(name) FROM employees;

ALTER WAREHOUSE demo_wh SUSPEND;

SELECT 1 FROM customers RESAMPLE USING x;

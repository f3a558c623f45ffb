SELECT l_return_flag, l_status,
       SUM(l_quantity) AS quantity, SUM(l_price) AS base_price,
       SUM(l_price * (1 - l_discount)) AS discounted_price,
       SUM(l_price * (1 - l_discount) * (1 + l_tax)) AS charge,
       AVG(l_quantity) AS average_quantity, AVG(l_price) AS average_price, AVG(l_discount) AS average_discount,
       COUNT(*) AS lines
FROM trade.public.line
WHERE l_ship_date <= DATEADD(day, -90, TO_DATE('2026-12-01'))
GROUP BY l_return_flag, l_status
ORDER BY l_return_flag, l_status

WITH sold AS (
  SELECT 'store' AS channel, i.i_category AS category, d.d_year AS year, d.d_quarter AS quarter, a.a_state AS state,
         ss.ss_quantity AS quantity, ss.ss_paid AS paid, ss.ss_profit AS profit
  FROM retail.star.store_sales ss
    JOIN retail.star.item i ON i.i_key = ss.ss_item_key
    JOIN retail.star.day d ON d.d_key = ss.ss_day_key
    LEFT JOIN retail.star.address a ON a.a_key = ss.ss_address_key
  WHERE ss.ss_quantity > 0
  UNION ALL
  SELECT 'web', i.i_category, d.d_year, d.d_quarter, a.a_state, ws.ws_quantity, ws.ws_paid, ws.ws_profit
  FROM retail.star.web_sales ws
    JOIN retail.star.item i ON i.i_key = ws.ws_item_key
    JOIN retail.star.day d ON d.d_key = ws.ws_day_key
    LEFT JOIN retail.star.address a ON a.a_key = ws.ws_address_key
  WHERE ws.ws_quantity > 0
), summed AS (
  SELECT channel, category, year, quarter, state, COUNT(*) AS sales, SUM(quantity) AS quantity, SUM(paid) AS paid,
         SUM(profit) AS profit, SUM(profit) / NULLIF(SUM(paid), 0) AS margin
  FROM sold
  GROUP BY channel, category, year, quarter, state
)
SELECT channel, category, year, quarter, state, sales, quantity, paid, profit, margin,
       LAG(paid) OVER (PARTITION BY channel, category, state ORDER BY year, quarter) AS paid_before,
       SUM(paid) OVER (PARTITION BY channel, category ORDER BY year, quarter ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)
         AS paid_in_a_year
FROM summed
WHERE margin > (SELECT AVG(margin) FROM summed)
ORDER BY channel, category, state, year, quarter

WITH year_total AS (
  SELECT c.c_id AS shopper_id, c.c_first_name AS first_name, c.c_last_name AS last_name, c.c_birth_country AS country,
         d.d_year AS year, SUM(ss.ss_list_price - ss.ss_discount) AS total, 's' AS channel
  FROM retail.star.shopper c
    JOIN retail.star.store_sales ss ON ss.ss_shopper_key = c.c_key
    JOIN retail.star.day d ON d.d_key = ss.ss_day_key
  GROUP BY c.c_id, c.c_first_name, c.c_last_name, c.c_birth_country, d.d_year
  UNION ALL
  SELECT c.c_id, c.c_first_name, c.c_last_name, c.c_birth_country, d.d_year,
         SUM(ws.ws_list_price - ws.ws_sales_price), 'w'
  FROM retail.star.shopper c
    JOIN retail.star.web_sales ws ON ws.ws_shopper_key = c.c_key
    JOIN retail.star.day d ON d.d_key = ws.ws_day_key
  GROUP BY c.c_id, c.c_first_name, c.c_last_name, c.c_birth_country, d.d_year
)
SELECT s2.shopper_id, s2.first_name, s2.last_name, s2.country
FROM year_total s1, year_total s2, year_total w1, year_total w2
WHERE s2.shopper_id = s1.shopper_id AND s1.shopper_id = w2.shopper_id AND s1.shopper_id = w1.shopper_id
  AND s1.channel = 's' AND w1.channel = 'w' AND s2.channel = 's' AND w2.channel = 'w'
  AND s1.year = 2024 AND s2.year = 2025 AND w1.year = 2024 AND w2.year = 2025
  AND s1.total > 0 AND w1.total > 0
  AND CASE WHEN w1.total > 0 THEN w2.total / w1.total ELSE 0.0 END
    > CASE WHEN s1.total > 0 THEN s2.total / s1.total ELSE 0.0 END
ORDER BY s2.shopper_id, s2.first_name, s2.last_name, s2.country LIMIT 100

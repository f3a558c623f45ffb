SELECT d.d_year, i.i_brand, i.i_category, SUM(ss.ss_paid) AS paid, SUM(ss.ss_profit) AS profit,
       RANK() OVER (PARTITION BY d.d_year ORDER BY SUM(ss.ss_paid) DESC) AS place
FROM retail.star.store_sales ss
  JOIN retail.star.day d ON d.d_key = ss.ss_day_key
  JOIN retail.star.item i ON i.i_key = ss.ss_item_key
WHERE i.i_manager BETWEEN 20 AND 40 AND d.d_month = 11
GROUP BY d.d_year, i.i_brand, i.i_category
QUALIFY place <= 10
ORDER BY d.d_year, place

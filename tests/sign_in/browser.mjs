// A person at a real browser (headless Chromium): opens the address a driver gives it, reads each page, and signs in.
//
// Arguments: the address; JSON { chromium, person, trace, pictures }. Appends to the file `trace` a line of JSON for each page
// the person saw, and for each answer the browser got. With `pictures`, a folder, each page is also kept as a picture.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const address = process.argv[2];
const { chromium, person, trace, pictures } = JSON.parse(process.argv[3]);
const say = (value) => appendFileSync(trace, JSON.stringify(value) + "\n");

// The PEP's certificate is of an authority made for the test. As root, as in a container, Chromium has no sandbox.
const args = ["--ignore-certificate-errors", "--disable-gpu", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])];
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args });
try {
  const [page] = await browser.pages();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("response", async (response) => {
    const body = await response.text().catch(() => "");
    say({ answer: response.url(), status: response.status(), headers: response.headers(), body });
  });
  const seen = async (what) => {
    // All of it at once: the browser may go on by itself in the middle. The style counts: an own style that the policy does
    // not let in would show in the colour.
    const looks = await page.evaluate(() => ({
      title: document.title,
      at: location.href.split("?")[0],
      text: document.body.innerText,
      color: getComputedStyle(document.body).backgroundColor,
    }));
    say({ page: what, ...looks, errors: errors.splice(0) });
    if (pictures) await page.screenshot({ path: join(pictures, `${what}.png`) });
  };
  const click = (selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);

  await page.goto(address);
  await seen("asked");
  await click("a.go");
  await page.waitForSelector("input[name=login]");
  await seen("login");
  await page.$eval("input[name=login]", (input) => (input.value = ""));
  await page.type("input[name=login]", person);
  await page.type("input[name=password]", "of no concern to icegate");
  await click("button[type=submit]");
  await page.waitForSelector("input[name=prompt][value=consent]");
  await seen("consent");
  // The browser goes on from the PEP's page by itself, a second later.
  await click("button[type=submit]");
  await seen("signed-in");
  await page.waitForFunction(() => location.hostname === "localhost", { timeout: 20_000 });
  await seen("handed-over");
} catch (error) {
  say({ failed: String(error) });
} finally {
  await browser.close();
}

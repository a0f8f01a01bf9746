/**
 * The page in Firefox, driven over WebDriver BiDi: prints what it shows as one line of JSON.
 *
 *     node viewer/tests/firefox.mjs /usr/bin/firefox-esr PAGE_URL ROW COL FILE [FILE ...]
 *
 * {"cell": [r, g, b], "tooltip": {...}, "runs": [...], "errors": [...], "complaints": [...], "requests": [...]}
 */

import puppeteer from "puppeteer-core";

const [executablePath, url, row, col, ...files] = process.argv.slice(2);

/** The middle of a cell in CSS pixels of the window, and its colour on the canvas. */
function cellOnPage(row, col) {
  const canvas = document.querySelector("[data-testid=cells]");
  const place = document.querySelector("[data-testid=heatmap]").dataset;
  const box = canvas.getBoundingClientRect();
  const x = +place.offsetX + (col - place.firstCol + 0.5) * place.cell;
  const y = +place.offsetY + (row - place.firstRow + 0.5) * place.cell;
  const at = [Math.floor((x * canvas.width) / box.width), Math.floor((y * canvas.height) / box.height)];
  const colour = [...canvas.getContext("2d").getImageData(...at, 1, 1).data].slice(0, 3);
  return { x: box.x + x, y: box.y + y, colour };
}

const drawn = () =>
  document.querySelector("[data-testid=heatmap]").dataset.state === "drawn" &&
  !document.querySelector("[data-testid=progress]").textContent.trim();

const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  const complaints = [];
  const requests = [];
  page.on("console", (said) => ["error", "warn"].includes(said.type()) && complaints.push(said.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.setViewport({ width: 1280, height: 860 });
  await page.goto(url);
  const input = await page.$("[data-testid=files]");
  await input.uploadFile(...files);
  await page.waitForFunction(drawn, { timeout: 20_000 });
  const { x, y, colour } = await page.evaluate(cellOnPage, Number(row), Number(col));
  await page.mouse.move(x, y);
  await page.evaluate(() => new Promise(requestAnimationFrame));
  const seen = await page.evaluate(() => ({
    tooltip: { ...document.querySelector("[data-testid=tooltip]").dataset },
    runs: [...document.querySelectorAll("[data-testid=runs] button")].map((button) => button.textContent.trim()),
    errors: [...document.querySelectorAll("[data-testid=errors] [role=alert]")].map((one) => one.textContent.trim()),
  }));
  console.log(JSON.stringify({ cell: colour, ...seen, complaints, requests }));
} finally {
  await browser.close();
}

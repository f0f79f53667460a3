// Everybody can use it: no finding of axe-core, at desktop and phone width, light and dark.

import AxeBuilder from "@axe-core/playwright";
import { type Page, expect, test } from "@playwright/test";
import { open, reaches } from "./page";

const TABS = ["metrics", "samples", "attention", "parameters", "runs", "about"];
const SHOWN = ["train.max_steps=120", "train.eval_interval=40", "train.log_interval=5", "train.sample_interval=60", "train.learning_rate=0.003"];

/** Nothing that axe-core finds, and nothing wider than the window. */
async function sound(page: Page, what: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map((found) => `${what}: ${found.id}: ${found.nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  expect(overflow, `${what} scrolls sideways`).toBeLessThanOrEqual(0);
}

const LOOKS = [
  ["desktop", 1280, 900, "light"],
  ["desktop", 1280, 900, "dark"],
  ["phone", 390, 844, "dark"],
  ["phone", 390, 844, "light"],
] as const;

test("nothing that axe-core finds, at any width, light and dark", async ({ page }) => {
  await open(page, SHOWN, "cpu", "tiny-char");
  await page.getByTestId("start").click();
  await reaches(page, "finished");
  for (const [name, width, height, colorScheme] of LOOKS) {
    await test.step(`${name}, ${colorScheme}`, async () => {
      await page.setViewportSize({ width, height });
      // Colours are checked as they stay, not half-way between two.
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const tab of TABS) {
        await page.getByTestId(`tab-${tab}`).click();
        await sound(page, `${tab} (${name}, ${colorScheme})`);
      }
      await page.getByTestId("tab-runs").click();
      await page.getByTestId("rename-run").click();
      await page.getByTestId("dialog-text").fill("");
      await page.getByTestId("confirm").click();
      await expect(page.getByTestId("dialog-problem")).toBeVisible();
      await sound(page, `rename (${name}, ${colorScheme})`);
      await page.getByTestId("dialog-text").fill("W".repeat(60));
      await page.getByTestId("confirm").click();
      await page.getByTestId("compare").check();
      await expect(page.getByTestId("comparison")).toContainText("WWW");
      await sound(page, `a long name (${name}, ${colorScheme})`);
      await page.getByTestId("tab-metrics").click();
      if (colorScheme === "light") {
        const folder = process.env.KILN_SCREENSHOTS ?? "test-results";
        if (name === "phone") await page.getByTestId("tab-metrics").scrollIntoViewIfNeeded();
        await page.screenshot({ path: `${folder}/page-${name}.png` });
      }
    });
  }
});

test("a run can be started, paused and ended from the keyboard", async ({ page }) => {
  await open(page, ["train.max_steps=100000", "train.log_interval=1", "train.eval_interval=0"]);
  await page.getByTestId("start").focus();
  await page.keyboard.press("Enter");
  await reaches(page, "running");
  await page.getByTestId("pause").focus();
  await page.keyboard.press("Space");
  await reaches(page, "paused");
});

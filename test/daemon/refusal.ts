/** What was thrown instead of taking a value. Fails when it was taken. */
export function refusal(act: () => unknown): { code: string; message: string; exitCode: number } {
  try {
    act();
  } catch (error) {
    return error as { code: string; message: string; exitCode: number };
  }
  throw new Error('It was taken');
}
